"""Published models, a folder for each family: paper and recipe facts, blocks, layouts, zoo rows."""
