"""What the grammars write, against sentences written by hand.

Every form of every word that carries an attribute occurs below (a test counts them), so agreement is tested in full.
A scene is written as "2 small red star, left of 1 large blue circle, above 3 medium pink arrow".
"""

import pytest

from polyglance.data.world import Group, Scene
from polyglance.data.world.grammars import GRAMMARS

SHORT = {
    "en": {
        "1 small red circle, left of 1 large blue square, above 2 small green star": (
            "The image shows a small red circle to the left of a large blue square and above two small green stars."
        ),
        "1 large white star, right of 3 small black heart, below 1 small purple cross": (
            "The image shows a large white star to the right of three small black hearts and below a small purple "
            "cross."
        ),
        "2 large white triangle, left of 1 small pink arrow, above 4 large purple diamond": (
            "The image shows two large white triangles to the left of a small pink arrow and above four large purple "
            "diamonds."
        ),
        "1 medium yellow diamond, right of 2 medium orange cross, below 1 large brown heart": (
            "The image shows a medium-sized yellow diamond to the right of two medium-sized orange crosses and below a "
            "large brown heart."
        ),
        "2 small red circle, left of 2 large blue square": (
            "The image shows two small red circles to the left of two large blue squares."
        ),
        "3 small purple arrow, below 1 large red triangle": (
            "The image shows three small purple arrows below a large red triangle."
        ),
        "1 large black heart": "The image shows a large black heart.",
    },
    "de": {
        "1 small red circle, left of 1 large blue square, above 2 small green star": (
            "Das Bild zeigt einen kleinen roten Kreis links von einem großen blauen Quadrat und über zwei kleinen "
            "grünen Sternen."
        ),
        "1 large white star, right of 3 small black heart, below 1 small purple cross": (
            "Das Bild zeigt einen großen weißen Stern rechts von drei kleinen schwarzen Herzen und unter einem kleinen "
            "violetten Kreuz."
        ),
        "2 large white triangle, left of 1 small black arrow, above 4 large purple diamond": (
            "Das Bild zeigt zwei große weiße Dreiecke links von einem kleinen schwarzen Pfeil und über vier großen "
            "violetten Rauten."
        ),
        "1 medium yellow diamond, right of 2 medium orange cross, below 1 large pink heart": (
            "Das Bild zeigt eine mittelgroße gelbe Raute rechts von zwei mittelgroßen orangefarbenen Kreuzen und unter "
            "einem großen rosafarbenen Herzen."
        ),
        "1 medium brown cross, left of 1 small yellow diamond, above 3 large red triangle": (
            "Das Bild zeigt ein mittelgroßes braunes Kreuz links von einer kleinen gelben Raute und über drei großen "
            "roten Dreiecken."
        ),
        "3 small purple arrow, right of 2 small pink circle, below 4 large brown arrow": (
            "Das Bild zeigt drei kleine violette Pfeile rechts von zwei kleinen rosafarbenen Kreisen und unter vier "
            "großen braunen Pfeilen."
        ),
        "2 small black square, left of 3 large white square, above 1 small green star": (
            "Das Bild zeigt zwei kleine schwarze Quadrate links von drei großen weißen Quadraten und über einem "
            "kleinen grünen Stern."
        ),
        "2 large red circle, below 1 large yellow triangle": (
            "Das Bild zeigt zwei große rote Kreise unter einem großen gelben Dreieck."
        ),
        "4 medium blue cross": "Das Bild zeigt vier mittelgroße blaue Kreuze.",
        "1 small orange heart": "Das Bild zeigt ein kleines orangefarbenes Herz.",
    },
    "fr": {
        "1 small red circle, left of 1 large blue square, above 2 small green star": (
            "La photo montre un petit cercle rouge à gauche d'un grand carré bleu et au-dessus de deux petites étoiles "
            "vertes."
        ),
        "1 large white star, right of 3 small black heart, below 1 small purple cross": (
            "La photo montre une grande étoile blanche à droite de trois petits cœurs noirs et en dessous d'une petite "
            "croix violette."
        ),
        "2 large white triangle, left of 1 small black arrow, above 4 large purple diamond": (
            "La photo montre deux grands triangles blancs à gauche d'une petite flèche noire et au-dessus de quatre "
            "grands losanges violets."
        ),
        "2 large white arrow, right of 2 small black cross, below 3 large purple star": (
            "La photo montre deux grandes flèches blanches à droite de deux petites croix noires et en dessous de "
            "trois grandes étoiles violettes."
        ),
        "1 small white diamond, left of 1 large black triangle, above 1 small purple heart": (
            "La photo montre un petit losange blanc à gauche d'un grand triangle noir et au-dessus d'un petit cœur "
            "violet."
        ),
        "1 medium blue star, right of 2 medium green square, below 2 small blue circle": (
            "La photo montre une étoile bleue de taille moyenne à droite de deux carrés verts de taille moyenne et en "
            "dessous de deux petits cercles bleus."
        ),
        "3 large blue cross, left of 1 small green triangle, above 1 large green arrow": (
            "La photo montre trois grandes croix bleues à gauche d'un petit triangle vert et au-dessus d'une grande "
            "flèche verte."
        ),
        "2 small orange square, right of 1 large orange star, below 2 large brown arrow": (
            "La photo montre deux petits carrés orange à droite d'une grande étoile orange et en dessous de deux "
            "grandes flèches marron."
        ),
        "4 small pink star, left of 1 large brown circle, above 3 small brown heart": (
            "La photo montre quatre petites étoiles roses à gauche d'un grand cercle marron et au-dessus de trois "
            "petits cœurs marron."
        ),
        "1 small yellow cross, right of 2 large yellow circle, below 1 large pink heart": (
            "La photo montre une petite croix jaune à droite de deux grands cercles jaunes et en dessous d'un grand "
            "cœur rose."
        ),
        "3 small red triangle": "La photo montre trois petits triangles rouges.",
    },
    "es": {
        "1 small red circle, left of 1 large blue square, above 2 small green star": (
            "La imagen muestra un círculo rojo pequeño a la izquierda de un cuadrado azul grande y encima de dos "
            "estrellas verdes pequeñas."
        ),
        "1 large white star, right of 3 small black heart, below 1 small purple cross": (
            "La imagen muestra una estrella blanca grande a la derecha de tres corazones negros pequeños y debajo de "
            "una cruz morada pequeña."
        ),
        "2 large white triangle, left of 1 small black arrow, above 4 large purple diamond": (
            "La imagen muestra dos triángulos blancos grandes a la izquierda de una flecha negra pequeña y encima de "
            "cuatro rombos morados grandes."
        ),
        "2 large white arrow, right of 2 small black cross, below 3 large purple star": (
            "La imagen muestra dos flechas blancas grandes a la derecha de dos cruces negras pequeñas y debajo de tres "
            "estrellas moradas grandes."
        ),
        "1 small white diamond, left of 1 medium black triangle, above 1 small purple heart": (
            "La imagen muestra un rombo blanco pequeño a la izquierda de un triángulo negro mediano y encima de un "
            "corazón morado pequeño."
        ),
        "1 medium red star, right of 2 medium yellow square, below 2 medium red cross": (
            "La imagen muestra una estrella roja mediana a la derecha de dos cuadrados amarillos medianos y debajo de "
            "dos cruces rojas medianas."
        ),
        "3 large yellow arrow, left of 1 small yellow circle, above 1 large yellow cross": (
            "La imagen muestra tres flechas amarillas grandes a la izquierda de un círculo amarillo pequeño y encima "
            "de una cruz amarilla grande."
        ),
        "2 small orange square, right of 1 large orange star, below 2 large brown arrow": (
            "La imagen muestra dos cuadrados naranjas pequeños a la derecha de una estrella naranja grande y debajo de "
            "dos flechas marrones grandes."
        ),
        "4 small pink star, left of 1 large brown circle, above 3 small red circle": (
            "La imagen muestra cuatro estrellas rosas pequeñas a la izquierda de un círculo marrón grande y encima de "
            "tres círculos rojos pequeños."
        ),
        "2 small blue circle, right of 1 large green triangle, below 1 small pink heart": (
            "La imagen muestra dos círculos azules pequeños a la derecha de un triángulo verde grande y debajo de un "
            "corazón rosa pequeño."
        ),
        "3 small green triangle": "La imagen muestra tres triángulos verdes pequeños.",
    },
    "ru": {
        "1 small red circle, left of 2 large blue circle, above 3 small green circle": (
            "На картинке изображен маленький красный круг слева от двух больших синих кругов и над тремя маленькими "
            "зелеными кругами."
        ),
        "1 large yellow star, right of 4 small red square, below 2 large black square": (
            "На картинке изображена большая желтая звезда справа от четырех маленьких красных квадратов и под двумя "
            "большими черными квадратами."
        ),
        "1 small white heart, left of 3 large pink triangle, above 4 small brown triangle": (
            "На картинке изображено маленькое белое сердце слева от трех больших розовых треугольников и над четырьмя "
            "маленькими коричневыми треугольниками."
        ),
        "2 large red arrow, right of 2 small orange star, below 3 large purple star": (
            "На картинке изображены две большие красные стрелки справа от двух маленьких оранжевых звезд и под тремя "
            "большими фиолетовыми звездами."
        ),
        "3 small blue heart, left of 3 large white heart, above 2 medium red heart": (
            "На картинке изображены три маленьких синих сердца слева от трех больших белых сердец и над двумя красными "
            "сердцами среднего размера."
        ),
        "1 medium green cross, right of 2 small yellow cross, below 4 large black cross": (
            "На картинке изображен зеленый крест среднего размера справа от двух маленьких желтых крестов и под "
            "четырьмя большими черными крестами."
        ),
        "1 large pink diamond, left of 4 small brown diamond, above 2 small blue diamond": (
            "На картинке изображен большой розовый ромб слева от четырех маленьких коричневых ромбов и над двумя "
            "маленькими синими ромбами."
        ),
        "4 medium orange arrow, right of 3 small purple arrow, below 2 large green arrow": (
            "На картинке изображены четыре оранжевые стрелки среднего размера справа от трех маленьких фиолетовых "
            "стрелок и под двумя большими зелеными стрелками."
        ),
        "1 small black square, left of 1 small red square, above 1 large blue triangle": (
            "На картинке изображен маленький черный квадрат слева от маленького красного квадрата и над большим синим "
            "треугольником."
        ),
        "1 large brown triangle, right of 1 large green triangle, below 1 small yellow square": (
            "На картинке изображен большой коричневый треугольник справа от большого зеленого треугольника и под "
            "маленьким желтым квадратом."
        ),
        "1 small pink star, left of 1 small white star, below 1 large orange star": (
            "На картинке изображена маленькая розовая звезда слева от маленькой белой звезды и под большой оранжевой "
            "звездой."
        ),
        "1 small black heart, above 1 large red heart, below 1 small purple arrow": (
            "На картинке изображено маленькое черное сердце над большим красным сердцем и под маленькой фиолетовой "
            "стрелкой."
        ),
        "1 large green heart": "На картинке изображено большое зеленое сердце.",
    },
    "zh": {
        "1 small red circle, left of 1 large blue square, above 2 small green star": (
            "图为一个红色小圆形，位于一个蓝色大正方形的左边、两颗绿色小五角星的上方。"
        ),
        "1 large white star, right of 3 small black heart, below 1 small purple cross": (
            "图为一颗白色大五角星，位于三颗黑色小爱心的右边、一个紫色小十字的下方。"
        ),
        "2 large white triangle, left of 1 small pink arrow, above 4 large purple diamond": (
            "图为两个白色大三角形，位于一个粉色小箭头的左边、四个紫色大菱形的上方。"
        ),
        "1 medium yellow diamond, right of 2 medium orange cross, below 1 large brown heart": (
            "图为一个中等大小的黄色菱形，位于两个中等大小的橙色十字的右边、一颗棕色大爱心的下方。"
        ),
        "1 large black heart": "图为一颗黑色大爱心。",
    },
}

DETAILED = {  # scene -> zone of each group, text
    "en": {
        "1 small red circle, left of 1 large blue square, above 2 small green star": (
            ("top left", "top right", "bottom left"),
            "The image shows a small red circle, a large blue square and two small green stars. The red circle is at "
            "the top left, to the left of the blue square and above the green stars. The blue square is at the top "
            "right, and the green stars are at the bottom left.",
        ),
        "1 large white star, right of 1 small black arrow, below 1 large yellow star": (
            ("bottom right", "bottom", "right"),
            "The image shows a large white star, a small black arrow and a large yellow star. The white star is at the "
            "bottom right, to the right of the black arrow and below the yellow star. The black arrow is at the "
            "bottom, and the yellow star is on the right.",
        ),
        "2 small pink heart, above 1 large brown cross": (
            ("top", "centre"),
            "The image shows two small pink hearts and a large brown cross. The pink hearts are at the top, above the "
            "brown cross. The brown cross is in the centre.",
        ),
        "3 medium orange diamond": (
            ("left",),
            "The image shows three medium-sized orange diamonds. The orange diamonds are on the left.",
        ),
    },
    "de": {
        "1 small red square, left of 1 large blue heart, above 1 small green cross": (
            ("top left", "top right", "bottom left"),
            "Das Bild zeigt ein kleines rotes Quadrat, ein großes blaues Herz und ein kleines grünes Kreuz. Das rote "
            "Quadrat befindet sich oben links, links vom blauen Herzen und über dem grünen Kreuz. Das blaue Herz "
            "befindet sich oben rechts und das grüne Kreuz befindet sich unten links.",
        ),
        "1 large yellow triangle, right of 1 small purple square, below 1 large black cross": (
            ("bottom right", "bottom", "right"),
            "Das Bild zeigt ein großes gelbes Dreieck, ein kleines violettes Quadrat und ein großes schwarzes Kreuz. "
            "Das gelbe Dreieck befindet sich unten rechts, rechts vom violetten Quadrat und unter dem schwarzen Kreuz. "
            "Das violette Quadrat befindet sich unten in der Mitte und das schwarze Kreuz befindet sich auf der "
            "rechten Seite.",
        ),
        "1 small white heart, left of 2 large pink star, above 1 small pink triangle": (
            ("left", "centre", "bottom left"),
            "Das Bild zeigt ein kleines weißes Herz, zwei große rosafarbene Sterne und ein kleines rosafarbenes "
            "Dreieck. Das weiße Herz befindet sich auf der linken Seite, links von den rosafarbenen Sternen und über "
            "dem rosafarbenen Dreieck. Die rosafarbenen Sterne befinden sich in der Mitte und das rosafarbene Dreieck "
            "befindet sich unten links.",
        ),
        "1 large orange diamond, right of 1 small brown diamond, above 3 small green heart": (
            ("top", "top left", "centre"),
            "Das Bild zeigt eine große orangefarbene Raute, eine kleine braune Raute und drei kleine grüne Herzen. Die "
            "orangefarbene Raute befindet sich oben in der Mitte, rechts von der braunen Raute und über den grünen "
            "Herzen. Die braune Raute befindet sich oben links und die grünen Herzen befinden sich in der Mitte.",
        ),
        "1 small white circle": (
            ("centre",),
            "Das Bild zeigt einen kleinen weißen Kreis. Der weiße Kreis befindet sich in der Mitte.",
        ),
    },
    "fr": {
        "1 small red circle, left of 1 large blue square, above 2 small green star": (
            ("top left", "top right", "bottom left"),
            "La photo montre un petit cercle rouge, un grand carré bleu et deux petites étoiles vertes. Le cercle "
            "rouge se trouve en haut à gauche, à gauche du carré bleu et au-dessus des étoiles vertes. Le carré bleu "
            "se trouve en haut à droite et les étoiles vertes se trouvent en bas à gauche.",
        ),
        "1 large white star, right of 1 small black arrow, below 1 large yellow star": (
            ("bottom right", "bottom", "right"),
            "La photo montre une grande étoile blanche, une petite flèche noire et une grande étoile jaune. L'étoile "
            "blanche se trouve en bas à droite, à droite de la flèche noire et en dessous de l'étoile jaune. La flèche "
            "noire se trouve en bas et l'étoile jaune se trouve sur la droite.",
        ),
        "2 small pink heart, above 1 large red cross": (
            ("top", "centre"),
            "La photo montre deux petits cœurs roses et une grande croix rouge. Les cœurs roses se trouvent en haut, "
            "au-dessus de la croix rouge. La croix rouge se trouve au centre.",
        ),
        "3 medium orange diamond": (
            ("left",),
            "La photo montre trois losanges orange de taille moyenne. Les losanges orange se trouvent sur la gauche.",
        ),
    },
    "es": {
        "1 small red circle, left of 1 large blue square, above 2 small green star": (
            ("top left", "top right", "bottom left"),
            "La imagen muestra un círculo rojo pequeño, un cuadrado azul grande y dos estrellas verdes pequeñas. El "
            "círculo rojo está en la parte superior izquierda, a la izquierda del cuadrado azul y encima de las "
            "estrellas verdes. El cuadrado azul está en la parte superior derecha y las estrellas verdes están en la "
            "parte inferior izquierda.",
        ),
        "1 large white star, right of 1 small black arrow, below 2 large yellow heart": (
            ("bottom right", "bottom", "right"),
            "La imagen muestra una estrella blanca grande, una flecha negra pequeña y dos corazones amarillos grandes. "
            "La estrella blanca está en la parte inferior derecha, a la derecha de la flecha negra y debajo de los "
            "corazones amarillos. La flecha negra está en la parte inferior y los corazones amarillos están en el lado "
            "derecho.",
        ),
        "2 small pink heart, above 1 large brown cross": (
            ("top", "centre"),
            "La imagen muestra dos corazones rosas pequeños y una cruz marrón grande. Los corazones rosas están en la "
            "parte superior, encima de la cruz marrón. La cruz marrón está en el centro.",
        ),
        "3 medium orange diamond": (
            ("left",),
            "La imagen muestra tres rombos naranjas medianos. Los rombos naranjas están en el lado izquierdo.",
        ),
    },
    "ru": {
        "2 small red circle, left of 1 large blue heart, above 1 small green square": (
            ("top left", "top right", "bottom left"),
            "На картинке изображены два маленьких красных круга, большое синее сердце и маленький зеленый квадрат. "
            "Красные круги находятся вверху слева, слева от синего сердца и над зеленым квадратом. Синее сердце "
            "находится вверху справа, а зеленый квадрат находится внизу слева.",
        ),
        "3 large blue square, right of 1 small yellow star, below 2 large red star": (
            ("bottom right", "bottom left", "top right"),
            "На картинке изображены три больших синих квадрата, маленькая желтая звезда и две большие красные звезды. "
            "Синие квадраты находятся внизу справа, справа от желтой звезды и под красными звездами. Желтая звезда "
            "находится внизу слева, а красные звезды находятся вверху справа.",
        ),
        "4 small green triangle, left of 1 large red heart, below 1 small blue triangle": (
            ("centre", "right", "top"),
            "На картинке изображены четыре маленьких зеленых треугольника, большое красное сердце и маленький синий "
            "треугольник. Зеленые треугольники находятся в центре, слева от красного сердца и под синим "
            "треугольником. Красное сердце находится в правой части картинки, а синий треугольник находится вверху.",
        ),
        "2 large yellow cross, right of 1 small red arrow, above 3 large blue arrow": (
            ("right", "left", "bottom"),
            "На картинке изображены два больших желтых креста, маленькая красная стрелка и три большие синие стрелки. "
            "Желтые кресты находятся в правой части картинки, справа от красной стрелки и над синими стрелками. "
            "Красная стрелка находится в левой части картинки, а синие стрелки находятся внизу.",
        ),
        "3 small orange diamond, left of 1 large yellow heart, above 1 small red circle": (
            ("centre", "right", "bottom"),
            "На картинке изображены три маленьких оранжевых ромба, большое желтое сердце и маленький красный круг. "
            "Оранжевые ромбы находятся в центре, слева от желтого сердца и над красным кругом. Желтое сердце находится "
            "в правой части картинки, а красный круг находится внизу.",
        ),
        "2 small purple heart, right of 1 large blue star, below 2 small yellow star": (
            ("bottom right", "bottom", "top right"),
            "На картинке изображены два маленьких фиолетовых сердца, большая синяя звезда и две маленькие желтые "
            "звезды. Фиолетовые сердца находятся внизу справа, справа от синей звезды и под желтыми звездами. Синяя "
            "звезда находится внизу, а желтые звезды находятся вверху справа.",
        ),
        "4 large black circle, left of 1 small green heart, above 1 large yellow cross": (
            ("top", "top right", "bottom"),
            "На картинке изображены четыре больших черных круга, маленькое зеленое сердце и большой желтый крест. "
            "Черные круги находятся вверху, слева от зеленого сердца и над желтым крестом. Зеленое сердце находится "
            "вверху справа, а желтый крест находится внизу.",
        ),
        "2 small white square, right of 1 small green arrow, below 4 large green star": (
            ("bottom right", "bottom left", "top right"),
            "На картинке изображены два маленьких белых квадрата, маленькая зеленая стрелка и четыре большие зеленые "
            "звезды. Белые квадраты находятся внизу справа, справа от зеленой стрелки и под зелеными звездами. Зеленая "
            "стрелка находится внизу слева, а зеленые звезды находятся вверху справа.",
        ),
        "3 large pink triangle, left of 1 small orange heart, above 1 large orange diamond": (
            ("top left", "top right", "bottom left"),
            "На картинке изображены три больших розовых треугольника, маленькое оранжевое сердце и большой оранжевый "
            "ромб. Розовые треугольники находятся вверху слева, слева от оранжевого сердца и над оранжевым ромбом. "
            "Оранжевое сердце находится вверху справа, а оранжевый ромб находится внизу слева.",
        ),
        "2 small brown cross, right of 1 large orange star, below 2 small orange arrow": (
            ("bottom right", "bottom left", "top right"),
            "На картинке изображены два маленьких коричневых креста, большая оранжевая звезда и две маленькие "
            "оранжевые стрелки. Коричневые кресты находятся внизу справа, справа от оранжевой звезды и под оранжевыми "
            "стрелками. Оранжевая звезда находится внизу слева, а оранжевые стрелки находятся вверху справа.",
        ),
        "1 medium red heart, left of 1 small purple heart, above 1 large purple square": (
            ("top left", "top right", "bottom left"),
            "На картинке изображены красное сердце среднего размера, маленькое фиолетовое сердце и большой фиолетовый "
            "квадрат. Красное сердце находится вверху слева, слева от фиолетового сердца и над фиолетовым квадратом. "
            "Фиолетовое сердце находится вверху справа, а фиолетовый квадрат находится внизу слева.",
        ),
        "1 large red arrow, right of 1 small purple star, below 3 small purple arrow": (
            ("bottom right", "bottom left", "top right"),
            "На картинке изображены большая красная стрелка, маленькая фиолетовая звезда и три маленькие фиолетовые "
            "стрелки. Красная стрелка находится внизу справа, справа от фиолетовой звезды и под фиолетовыми стрелками. "
            "Фиолетовая звезда находится внизу слева, а фиолетовые стрелки находятся вверху справа.",
        ),
        "1 small blue triangle, left of 1 large black heart, above 1 small black cross": (
            ("top left", "top right", "bottom left"),
            "На картинке изображены маленький синий треугольник, большое черное сердце и маленький черный крест. Синий "
            "треугольник находится вверху слева, слева от черного сердца и над черным крестом. Черное сердце находится "
            "вверху справа, а черный крест находится внизу слева.",
        ),
        "1 large blue star, right of 1 small black star, below 4 small black arrow": (
            ("bottom right", "bottom left", "top right"),
            "На картинке изображены большая синяя звезда, маленькая черная звезда и четыре маленькие черные стрелки. "
            "Синяя звезда находится внизу справа, справа от черной звезды и под черными стрелками. Черная звезда "
            "находится внизу слева, а черные стрелки находятся вверху справа.",
        ),
        "1 small green circle, left of 1 large white heart, above 1 small white triangle": (
            ("top left", "top right", "bottom left"),
            "На картинке изображены маленький зеленый круг, большое белое сердце и маленький белый треугольник. "
            "Зеленый круг находится вверху слева, слева от белого сердца и над белым треугольником. Белое сердце "
            "находится вверху справа, а белый треугольник находится внизу слева.",
        ),
        "2 medium green star, right of 1 small white arrow, below 2 large white star": (
            ("bottom right", "bottom left", "top right"),
            "На картинке изображены две зеленые звезды среднего размера, маленькая белая стрелка и две большие белые "
            "звезды. Зеленые звезды находятся внизу справа, справа от белой стрелки и под белыми звездами. Белая "
            "стрелка находится внизу слева, а белые звезды находятся вверху справа.",
        ),
        "1 small yellow circle, left of 1 large pink heart, above 1 small pink diamond": (
            ("top left", "top right", "bottom left"),
            "На картинке изображены маленький желтый круг, большое розовое сердце и маленький розовый ромб. Желтый "
            "круг находится вверху слева, слева от розового сердца и над розовым ромбом. Розовое сердце находится "
            "вверху справа, а розовый ромб находится внизу слева.",
        ),
        "1 large yellow arrow, right of 1 small pink star, below 3 large pink arrow": (
            ("bottom right", "bottom left", "top right"),
            "На картинке изображены большая желтая стрелка, маленькая розовая звезда и три большие розовые стрелки. "
            "Желтая стрелка находится внизу справа, справа от розовой звезды и под розовыми стрелками. Розовая звезда "
            "находится внизу слева, а розовые стрелки находятся вверху справа.",
        ),
        "1 small red square, left of 1 large brown heart, above 1 small brown circle": (
            ("top left", "top right", "bottom left"),
            "На картинке изображены маленький красный квадрат, большое коричневое сердце и маленький коричневый круг. "
            "Красный квадрат находится вверху слева, слева от коричневого сердца и над коричневым кругом. Коричневое "
            "сердце находится вверху справа, а коричневый круг находится внизу слева.",
        ),
        "1 large red star, right of 1 small brown arrow, below 2 large brown star": (
            ("bottom right", "bottom left", "top right"),
            "На картинке изображены большая красная звезда, маленькая коричневая стрелка и две большие коричневые "
            "звезды. Красная звезда находится внизу справа, справа от коричневой стрелки и под коричневыми звездами. "
            "Коричневая стрелка находится внизу слева, а коричневые звезды находятся вверху справа.",
        ),
        "1 small white circle": (
            ("centre",),
            "На картинке изображен маленький белый круг. Белый круг находится в центре.",
        ),
        "3 small white arrow": (
            ("top",),
            "На картинке изображены три маленькие белые стрелки. Белые стрелки находятся вверху.",
        ),
    },
    "zh": {
        "1 small red circle, left of 1 large blue square, above 2 small green star": (
            ("top left", "top right", "bottom left"),
            "图为一个红色小圆形、一个蓝色大正方形和两颗绿色小五角星。红色圆形位于画面左上角，在蓝色正方形的左边、绿色五角星的上方。蓝色正方形位于画面右上角，绿色五角星位于画面左下角。",
        ),
        "1 large white star, right of 1 small black arrow, below 1 large yellow star": (
            ("bottom right", "bottom", "right"),
            "图为一颗白色大五角星、一个黑色小箭头和一颗黄色大五角星。白色五角星位于画面右下角，在黑色箭头的右边、黄色五角星的下方。黑色箭头位于画面底部，黄色五角星位于画面右侧。",
        ),
        "2 small pink heart, above 1 large brown cross": (
            ("top", "centre"),
            "图为两颗粉色小爱心和一个棕色大十字。粉色爱心位于画面顶部，在棕色十字的上方。棕色十字位于画面中央。",
        ),
        "3 medium orange diamond": (
            ("left",),
            "图为三个中等大小的橙色菱形。橙色菱形位于画面左侧。",
        ),
    },
}


def scene_of(text: str) -> Scene:
    first, *others = text.split(", ")
    words = [first.split(), *(other.split()[-4:] for other in others)]
    groups = tuple(
        Group(number=int(number), size=size, colour=colour, shape=shape) for number, size, colour, shape in words
    )
    relations = tuple(" ".join(other.split()[:-4]) for other in others)
    return Scene(level="full", groups=groups, relations=relations, seed=0)


@pytest.mark.parametrize(
    ("language", "scene", "sentence"),
    [(language, *case) for language, cases in SHORT.items() for case in cases.items()],
)
def test_short(language: str, scene: str, sentence: str) -> None:
    assert GRAMMARS[language].short(scene_of(scene)) == sentence


@pytest.mark.parametrize(
    ("language", "scene", "zones", "text"),
    [(language, scene, *case) for language, cases in DETAILED.items() for scene, case in cases.items()],
)
def test_detailed(language: str, scene: str, zones: tuple[str, ...], text: str) -> None:
    assert GRAMMARS[language].detailed(scene_of(scene), zones) == text


@pytest.mark.parametrize("language", GRAMMARS)
def test_the_sentences_above_hold_every_form(language: str) -> None:
    texts = [*SHORT[language].values(), *(text for _, text in DETAILED[language].values())]
    seen = "\n".join(texts).lower()
    spaced = language != "zh"
    words = set(seen.replace(".", " ").replace(",", " ").replace("'", " ").split())
    forms = [form for values in GRAMMARS[language].forms().values() for some in values.values() for form in some]
    missing = [form for form in forms if form not in (words if spaced and " " not in form else seen)]
    assert missing == []


@pytest.mark.parametrize("language", GRAMMARS)
def test_the_grammar_is_registered_under_its_code(language: str) -> None:
    assert GRAMMARS[language].code == language
