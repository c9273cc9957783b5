"""The gateway that answers, the replicas that compute, and the rollout that moves versions in and out."""
