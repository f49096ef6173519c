from loradock.engine.main import main

main()
