"""Output defences: functions from a model's outputs to what is answered, the same in an audit and in the guard."""
