"""How the miniature's models are trained: text encoder, VAE, U-Net, scorers, judges.

Reading order: networks (the untrained models), hyperparameters, training_data, stage with muon (a
model in training, on disk), workshop (what every stage needs), text_encoder, vae, unet,
scorer_training, judge_data, judges and judge_training (a model each), weights_export (the weights
folder), onwards with growth (from finished weights, into larger networks), recipe (the stages in
their order), joint_text, photographed, joint_unet, joint_export and joint_recipe (the same of
miniature-xl, with two text encoders), building (from the command line), carry (to another machine),
restyle and contrastive (copies), structure (a trial), names and naming (another: instances with
names, and the weights).
"""
