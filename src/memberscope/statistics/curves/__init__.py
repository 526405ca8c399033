"""The ROC curve and what is read off it: AUC, TPR at a false-positive rate, and their intervals."""
