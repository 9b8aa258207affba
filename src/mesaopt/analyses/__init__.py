"""What is read out of trained models."""
