"""What Plivo reports of a message: delivery reports, which only move it forward."""
