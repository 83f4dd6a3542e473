"""Training of the embedded prior and of the tiny CLIP, stage by stage (see ``train_prior.py``)."""
