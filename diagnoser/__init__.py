"""The diagnoser: modality weaving, Longformer classifier, calibration, evaluation."""
