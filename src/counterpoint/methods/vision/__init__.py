"""Methods that embed images, and bags of them."""
