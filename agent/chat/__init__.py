"""Chat: a model behind any endpoint of OpenAI's protocol uses the commands as tools, and the user decides."""
