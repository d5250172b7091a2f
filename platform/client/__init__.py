"""What a bridge to a real system is written with: ask the daemon, fall back when it is away."""
