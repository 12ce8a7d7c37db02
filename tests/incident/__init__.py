"""The incident, in old designs and in ours."""
