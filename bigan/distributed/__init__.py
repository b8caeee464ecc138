"""Many ranks as one: groups, players behind DeepSpeed, checkpoints."""
