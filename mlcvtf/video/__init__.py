"""Sources, prediction, drawing and sinks: what the apps share."""
