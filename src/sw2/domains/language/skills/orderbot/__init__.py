"""OrderBot: many-turn orders over random menus.

    system      You are OrderBot of Luna, a pizzeria. … Pizza: - margherita pizza: small 7.00, large 9.50 …
    user        two margheritas please
    assistant   calls order_pad {"lines": "1: 2 x margherita pizza, size open, extras open"}
    assistant   Which size of margherita pizza: small margherita pizza 7.00, large margherita pizza 9.50? Any extras …?
    …           until the bot has added up with the calculator, knows pickup or delivery, address and payment
    assistant   Thank you, your order is placed! … and a call of place_order

Reading order: `menus`, `names` (of train, put together of parts), `voices` (wordings in families), `customer` (what is
wanted, and when it is told), `pad` (a tool that keeps the order), `policy` (the bot of the reference), `checker`,
`talks` (examples, and a bot of one's own in conversation with the customers).

Held out: kinds of restaurants with all their dishes, extras and drinks, *and* families of wordings. A fifth of the test
is on the menu of the lecture that this toolchain's mission comes from, along its conversation; another fifth has orders
that were written by hand, over three menus.
"""
