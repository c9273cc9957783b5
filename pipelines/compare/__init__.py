"""What two versions do on the same rows: where they answer otherwise, and what each leans on."""
