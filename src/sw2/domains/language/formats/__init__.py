"""The world's formats of language models, in and out: GGUF (llama.cpp) and the Hugging Face folder.

Reading order: `gguf` (the file: header, tensors), `tokens` (tokenizers and templates), `reading` (either one to a
network and its tokenizer), `writing` (the way back, compared), `opening` (either one to a Program). Which architecture
is which shape: `families`, one room up.
"""
