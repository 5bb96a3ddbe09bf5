"""One thread that reads the store, and the news it hands over."""
