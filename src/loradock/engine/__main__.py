from loradock.engine.process.main import main

main()
