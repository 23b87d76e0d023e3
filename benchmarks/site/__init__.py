"""A page over several runs: the explorer, served here or written as a folder.

Reading order: explored (runs as the page sees them), column_words (what their columns mean),
explorer_data (compact JSON), picture_strips (thumbnails), explorer_page (the HTML), view_server,
view_bundle, command; assets/ holds page, style and scripts.
"""
