"""The ROC curve, the AUC and the TPR at a false-positive rate, with their intervals."""
