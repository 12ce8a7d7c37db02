"""The order service over gRPC, in a rush."""
