"""What `edge_vision bench` measures with: the contenders, each in processes of its own, and the figures' summary."""
