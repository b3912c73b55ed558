"""The description toolkit: an instruction is declared once; decoders, disassembler, evaluator and native tiers follow."""
