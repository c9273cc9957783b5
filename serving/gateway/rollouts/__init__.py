"""What changes who answers: releases, withdrawals, and the record of both."""
