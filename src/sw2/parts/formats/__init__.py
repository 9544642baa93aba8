"""Files of other toolkits, as far as they do not depend on what is learned."""
