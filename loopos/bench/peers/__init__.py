"""The engines that are compared, each a program: ``python -m loopos.bench.peers.NAME`` answers requests on stdin.

They are named in :mod:`loopos.bench.process`; each imports its own engine and is never imported by another part.
"""
