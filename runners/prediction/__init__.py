"""Classify new images with a trained agent, and export what classifies them."""
