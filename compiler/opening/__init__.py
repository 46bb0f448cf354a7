"""The trained model as received: opened within limits, checked, brought into the form that is sealed.

Read `source` first, then `graph`: what goes in and out.
"""
