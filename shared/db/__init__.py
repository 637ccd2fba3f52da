"""PostgreSQL, the truth: tables, statements and migrations. Nothing else imports SQLAlchemy."""
