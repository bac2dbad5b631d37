"""Label Studio's dialect: its requests, its labeling configurations, its regions."""
