"""The workshop: a trained ONNX model becomes a signed bundle, a bundle a proven version."""
