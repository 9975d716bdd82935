"""How good a model is, by a number: multiple choice by likelihood, exact match of what it writes, loss of a text."""
