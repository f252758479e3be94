"""The program's sentence at work: observe -> plan -> guard -> apply -> assess, over ports only."""
