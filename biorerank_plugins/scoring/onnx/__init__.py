"""Cross-encoders on ONNX Runtime, in fp32 or int8, on a CPU."""
