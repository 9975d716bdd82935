"""A server with the completions and chat routes of the OpenAI API (extra [serve]: Starlette on uvicorn)."""
