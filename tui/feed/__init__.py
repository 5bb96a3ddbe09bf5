"""One thread that reads the store and hands over news; the only room that opens it. Changes nothing, draws nothing."""
