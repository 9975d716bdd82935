"""Files that are whole or not there, and safetensors: what the rest of the package reads and writes with."""
