"""What is known of a biomedical article: identifiers, dates, publication types, retractions, repeats."""
