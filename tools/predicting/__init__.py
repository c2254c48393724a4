"""Images in, results out, whatever format the model's file has."""
