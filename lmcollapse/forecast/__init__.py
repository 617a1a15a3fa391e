"""How long a sweep will take and how large it will be, before it is begun.

ledger.py writes down every step that is to come, calibrate.py finds out what steps cost, rates.py goes from these to
those, forecast.py adds up.
"""

from lmcollapse.forecast.forecast import Forecast, described, forecast

__all__ = ["Forecast", "described", "forecast"]
