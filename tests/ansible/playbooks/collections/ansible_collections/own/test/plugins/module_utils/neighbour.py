WHERE = "next door"
