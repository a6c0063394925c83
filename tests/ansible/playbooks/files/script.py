#!/usr/bin/python3
import sys

print("python script", sys.argv[1:])
