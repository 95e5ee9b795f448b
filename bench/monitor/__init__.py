"""What the drift monitor keeps of its promises, measured."""
