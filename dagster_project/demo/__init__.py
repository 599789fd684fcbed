"""The generated retailer: every feed of the source contract, dirty as real exports are, with its truth beside it.

What belongs here: the made-up shop, its people and their behaviour, and how its systems write files. What does not:
anything the pipeline does with them; nothing here is imported by the pipeline, and the only thing imported from it is
the contract.
"""

from dagster_project.demo.generate import DemoPlan, DemoSummary, generate

__all__ = ["DemoPlan", "DemoSummary", "generate"]
