"""What any server of the contract must do, told over gRPC alone; see README.md."""
