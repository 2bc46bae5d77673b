"""The generator: Resp-MLLM writes units, a flow-matching decoder turns them into audio."""
