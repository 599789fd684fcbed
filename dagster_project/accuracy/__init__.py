"""The accuracy benchmark: how well Cocanal tells people apart, beside two other ways on the same data and machine.

``make accuracy`` runs it; docs/accuracy.md holds what it found. ``staged`` lays out the data, ``methods`` and
``plain_splink`` are what is compared, ``public`` runs them on files of people of whom the truth is known, ``report``
writes the tables, ``__main__`` runs it all, each method as a process of its own.

What belongs here: the other ways to do it, and how they are measured alike. What does not: the measures themselves
(``domain.identity.evaluation``), and anything that the pipeline needs; nothing here is imported by it.
"""
