"""
The observer: a process of the gateway's that sees what was asked and answered, off the path of the requests.

It joins answers with labels and with a shadow's answers, writes the prediction log, and looks for drift. The gateway sends
it batches and never waits for it; it sends counts back. If it dies or falls behind, requests are answered all the same.
"""
