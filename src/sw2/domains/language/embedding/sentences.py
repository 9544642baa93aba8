"""Sentences in which one word has one of two senses, for the claim of `senses`.

Twelve English words with two senses each, and six sentences a sense, written for this. A word stands in each of its
sentences once, in this very form.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

__all__ = ["SENTENCES"]

SENTENCES: Final[Mapping[str, Mapping[str, Sequence[str]]]] = {
    "apple": {
        "the fruit": (
            "She cut the apple into slices and gave them to the children.",
            "A ripe apple fell from the old tree behind the barn.",
            "He peeled an apple for the cake before the oven was hot.",
            "The horse took the apple gently out of my hand.",
            "This apple tastes sour, but it keeps well in the cellar.",
            "There was a worm in the apple that I had bitten into.",
        ),
        "the company": (
            "Investors sold shares of apple after the quarterly report.",
            "The new phone from apple has a faster chip.",
            "She works as a software engineer at apple in California.",
            "A judge ordered apple to open its store to other payments.",
            "Last year apple spent billions on chip design.",
            "The contract between apple and its suppliers runs for two years.",
        ),
    },
    "run": {
        "to move fast": (
            "The children run across the field as soon as the bell rings.",
            "I have to run every morning before the marathon in May.",
            "The dogs run after the ball until they are tired.",
            "She can run a mile in less than six minutes.",
            "We had to run through the rain to catch the last bus.",
            "The deer run into the wood when they hear a step.",
        ),
        "to manage": (
            "They run a small hotel near the harbour with eight rooms.",
            "Her parents run the bakery at the corner of our street.",
            "It takes three people to run the office while the boss is away.",
            "The brothers run a company that repairs computers.",
            "He was asked to run the department until a new head is found.",
            "Volunteers run the library and pay for most of the books.",
        ),
    },
    "bank": {
        "for money": (
            "The bank raised its interest on savings in spring.",
            "He opened an account at the bank and paid in his wages.",
            "The clerk at the bank counted the notes twice.",
            "Our bank refused the loan because the papers were missing.",
            "Robbers emptied the safe of the bank in one night.",
            "I asked the bank to stop the payment at once.",
        ),
        "of a river": (
            "We sat on the bank and watched the boats drift by.",
            "The flood washed away the bank below the mill.",
            "Willows grow along the bank where the water is shallow.",
            "The fisherman pulled the boat up the muddy bank.",
            "A heron stood still on the far bank of the stream.",
            "Cows came down to the bank to drink in the evening.",
        ),
    },
    "bat": {
        "the animal": (
            "At dusk a bat flew out of the cave to hunt moths.",
            "The bat hangs upside down from the beam and sleeps all day.",
            "A small bat squeaked in the attic during the night.",
            "In winter the bat lives on its fat and hardly breathes.",
            "The bat finds its way in the dark by its own echo.",
            "We saw a bat with a pup clinging to its fur.",
        ),
        "the club": (
            "He swung the bat and hit the ball over the fence.",
            "The bat broke in two when the pitch came in fast.",
            "She gripped the bat tightly and waited for the throw.",
            "Each player brings a bat and a glove to the practice.",
            "The wooden bat leaned against the wall of the dugout.",
            "With one stroke of his bat he won the inning.",
        ),
    },
    "spring": {
        "the season": (
            "In spring the meadows are full of yellow flowers.",
            "The birds come back every spring from the south.",
            "Last spring was cold, and the cherries bloomed late.",
            "Farmers sow the oats in spring when the frost is over.",
            "The days grow longer in spring, and the snow melts.",
            "We plan to paint the house next spring, before the summer heat.",
        ),
        "the coil": (
            "A steel spring pushes the lid open when you press the button.",
            "The spring in the mattress is bent and pricks my back.",
            "He wound up the spring of the old clock with a key.",
            "The spring of the pen jumped out when I unscrewed it.",
            "A heavier load needs a stiffer spring in the axle.",
            "The door closes by itself because a spring pulls it shut.",
        ),
    },
    "bark": {
        "of a dog": (
            "The bark of the dog woke up the whole street.",
            "We heard a loud bark behind the gate and stepped back.",
            "His terrier has a sharp bark for such a small animal.",
            "One angry bark was enough to scare the postman away.",
            "The puppy gave a happy bark when she came home.",
            "A distant bark told the hunter where his hound was.",
        ),
        "of a tree": (
            "The bark of the birch is white and peels off in strips.",
            "Beetles had eaten tunnels under the bark of the spruce.",
            "Deer gnaw at the bark of young trees in winter.",
            "Cork is made from the bark of an oak.",
            "Moss covered the bark on the north side of the trunk.",
            "He carved a heart into the smooth bark of the beech.",
        ),
    },
    "crane": {
        "the bird": (
            "A grey crane waded through the marsh and caught a frog.",
            "The crane spread its wings and danced before its mate.",
            "In autumn the crane flies south with its young.",
            "We watched the crane build a nest among the reeds.",
            "The call of a crane can be heard from far across the lake.",
            "A crane stood on one leg in the shallow water.",
        ),
        "the machine": (
            "The crane lifted the steel beams up to the tenth floor.",
            "A worker climbed into the cabin of the crane at dawn.",
            "The crane at the harbour unloads forty containers an hour.",
            "Strong wind stopped the crane on the building site.",
            "They rented a crane to set the roof on the new hall.",
            "The hook of the crane swung above the trucks.",
        ),
    },
    "mouse": {
        "the animal": (
            "The cat caught a mouse in the kitchen last night.",
            "A mouse gnawed a hole into the bag of flour.",
            "The owl swallowed the mouse in one piece.",
            "A grey mouse ran along the wall and vanished in a crack.",
            "The field mouse stores seeds in its burrow for the winter.",
            "She screamed when a mouse jumped out of the cupboard.",
        ),
        "the device": (
            "Click with the left button of the mouse to open the file.",
            "My mouse needs new batteries, so the cursor does not move.",
            "She plugged the mouse and the keyboard into the laptop.",
            "Move the mouse to the corner of the screen and drag the window.",
            "A wireless mouse saves you one cable on the desk.",
            "The wheel of the mouse scrolls the page up and down.",
        ),
    },
    "match": {
        "the game": (
            "Our team won the match by two goals to one.",
            "The match was stopped because of heavy rain.",
            "Thousands of fans watched the match in the stadium.",
            "She lost the first set but won the match.",
            "The referee blew his whistle and the match was over.",
            "He was hurt in the last match of the season.",
        ),
        "for a fire": (
            "He struck a match and lit the candle on the table.",
            "The last match in the box was wet and would not burn.",
            "She held the match to the paper until the stove was burning.",
            "A burning match fell into the dry grass and started a fire.",
            "Blow out the match before it burns your fingers.",
            "By the light of a match we found the keyhole.",
        ),
    },
    "seal": {
        "the animal": (
            "A young seal lay on the ice and waited for its mother.",
            "The seal dived under the boat and came up with a fish.",
            "We saw a seal sleeping on the sandbank at low tide.",
            "The polar bear hunts the seal at its breathing hole.",
            "The seal clapped its flippers and slid into the water.",
            "A thick layer of fat keeps the seal warm in the sea.",
        ),
        "the stamp": (
            "The letter bears the seal of the king in red wax.",
            "A notary put his seal under the contract.",
            "The university prints its seal on every diploma.",
            "He broke the seal of the envelope and read the message.",
            "The deed is not valid without the seal of the court.",
            "An ancient seal of clay shows the name of the merchant.",
        ),
    },
    "plant": {
        "that grows": (
            "Water the plant twice a week and keep it in the sun.",
            "The plant has white flowers and small round leaves.",
            "A plant needs light to turn air and water into sugar.",
            "She carried the potted plant from the balcony into the house.",
            "The roots of the plant reach deep into the dry soil.",
            "This plant is poisonous for cats, so put it up high.",
        ),
        "the factory": (
            "The plant builds four hundred cars a day on two lines.",
            "Workers at the plant went on strike for higher wages.",
            "The chemical plant was closed after the explosion.",
            "A new power plant will supply the city with electricity.",
            "The owner wants to sell the plant and dismiss the staff.",
            "Inspectors visited the plant to check its machines.",
        ),
    },
    "jam": {
        "to eat": (
            "She spread strawberry jam on her toast.",
            "We cooked jam from the plums in the garden.",
            "The jar of jam is nearly empty, so buy a new one.",
            "He filled the pancakes with apricot jam and sugar.",
            "My grandmother stirred the jam until it was thick.",
            "Butter and jam are on the breakfast table.",
        ),
        "of traffic": (
            "We stood in a jam on the motorway for two hours.",
            "An accident caused a long jam before the tunnel.",
            "The radio warns of a jam on the road to the airport.",
            "Leave early, or you will get into the evening jam.",
            "The jam of cars reached from the bridge to the station.",
            "Roadworks led to a jam in both directions this morning.",
        ),
    },
}
