"""The world's formats of language models, in and out: GGUF (llama.cpp) and the Hugging Face folder.

Reading order: `gguf` (the file: header, tensors), `huggingface` (the folder), `opening` (either one to a Program, a
Program to either one). Which architecture is which shape: `families`, one room up.
"""
