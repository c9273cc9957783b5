"""The signals other systems read: metric names, alert rules, and the configuration of what scrapes and routes them."""
