"""What two real PDSes and a real PLC directory said, saved; and how to run them again.

capture/   178 frames of two reference PDSes (@atproto/pds 0.5.35) in 40 s: every operation of an
           account's life, a migration, key rotations with and without notice, deletions
  pds0.bin.gz, pds1.bin.gz   frames as received: length (u32, little-endian) + bytes, repeated
  audit.json.gz              the directory's audit log of each DID
  log.jsonl.gz               what was done, and what each host had to say about it
replay.py  serves them again on loopback
live.py    runs the real thing (`make test-realpds`)
"""
